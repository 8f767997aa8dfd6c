"""Answering requests with the champion: the contract, the hot path, the prediction log, and following the ledger."""
