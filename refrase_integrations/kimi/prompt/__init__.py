"""The prompt engine: `lint` finds what Kimi's documentation warns of, `compact` takes repeats, filler and decoration
out, `rewrite` checks what a model made of a prompt. No framework, no request."""
