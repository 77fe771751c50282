"""Partner submissions: packed by `pack`, judged by rules S01–S21 in a sandbox, kept by content, certified and signed.

Everything a partner sends is hostile until checked: it is parsed in a subprocess without network and with limits
(`sandbox`), formats are told by content and never by name, nothing is unpickled, unpacked or executed, and whatever
cannot be decided counts as refused. Kept free of imports: the subprocess shuts its doors before it imports a parser.
"""
