"""What `medallion watch` looks at: one file per subject, one function per question, listed in `registry`."""
