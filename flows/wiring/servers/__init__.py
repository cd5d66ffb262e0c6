"""The checkout's Prefect server, and flow runs whose process is gone."""
