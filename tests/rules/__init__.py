"""Each rule of `waybill check`, made to happen."""
