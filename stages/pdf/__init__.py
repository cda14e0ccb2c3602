"""The text of PDFs, read in processes of their own."""
