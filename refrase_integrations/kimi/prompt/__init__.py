"""The prompt engine: `lint` finds what Kimi's documentation warns of, `compact` shortens without losing a rule,
`rewrite` checks what a model made of a prompt. No framework, no request."""
