"""What training setup plans and fine-tuning runs."""
