"""The pages of evaluation: verdict, scores, slices, answers that changed, and what other rooms add."""
