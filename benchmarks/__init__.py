"""What batchembed costs, as ratios to peers and limits measured in the same run."""
