"""What can truly be said and asked about a view of the table."""
