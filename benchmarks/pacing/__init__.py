"""Rate control in virtual time: servers that limit, and ways to meet them."""
