"""What fast backends share: tables, folded matrices, lists of terms, ready layers."""
