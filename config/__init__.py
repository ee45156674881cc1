"""Ground floor: settings, recipes, messages, sockets, the service loop, errors, log and clock."""
