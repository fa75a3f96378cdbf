"""The providers that come with batchembed, as data."""
