"""Published models: the list of them, and how they are fetched and cached."""
