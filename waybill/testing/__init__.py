"""Who received what: brokers, real workers, their receipts, and the comparison with the prediction."""
