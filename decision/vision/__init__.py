"""The station as an OPC UA server, as OPC 40100-1 (Machine Vision) describes one; a process of its own."""
