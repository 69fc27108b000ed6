"""Watch, receipts, plugin, lessons and tour, with real workers."""
