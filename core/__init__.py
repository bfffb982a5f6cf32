"""Ground floor: errors, types, config loading, components, the stage store, chat models, devices, progress."""
