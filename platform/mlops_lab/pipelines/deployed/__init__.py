"""What a Prefect server runs by itself: flows as deployments, and the automations that start and end them. `on_prefect.py` has the list."""
