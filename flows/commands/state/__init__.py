"""What a checkout's state is, asked of files, DVC and MLflow's store; nothing is started and nothing heavy imported."""
