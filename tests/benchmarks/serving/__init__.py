"""Our inference service beside `mlflow models serve` and a FastAPI echo, in one run on one machine. Run: `make bench`."""
