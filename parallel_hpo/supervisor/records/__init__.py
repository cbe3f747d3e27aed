"""What a sweep leaves on the disk: its folder, its ledger, its summary; and how a launch goes on from it."""
