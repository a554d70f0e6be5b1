"""What the ledger answers, case by case, on the model and on the real store alike."""
