package concordat

// Refusal is the error for an outcome that is not a commit.
var Refusal = refusal
