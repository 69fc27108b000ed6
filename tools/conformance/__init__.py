"""Generated topologies and messages, asked of waybill's router and of a live broker; see
docs/explanation/router.md."""
