"""mlops-lab: train, validate, promote, serve, monitor, retrain; each stage is a folder, and the loop closes through events."""
