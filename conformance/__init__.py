"""One file per text with clauses; every test is named after the clause that it holds."""
