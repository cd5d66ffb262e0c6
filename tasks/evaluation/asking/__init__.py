"""Questions to a model beside the held-out items: what is asked, how it is answered, what comes back."""
