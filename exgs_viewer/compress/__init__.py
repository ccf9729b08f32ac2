"""cloud -> smaller cloud, in pure steps: score, select, encode."""
