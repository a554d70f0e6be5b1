"""Plans and periods: the calendar, and what events and time make of a schedule."""
