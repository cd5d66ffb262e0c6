"""What every flow needs: paths, params, the stage's frame, servers, records."""
