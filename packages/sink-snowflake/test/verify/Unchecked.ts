/**
 * Assumptions that this script doesn't check, and why.
 */
const outside = "can't be brought about from outside"
const load = "needs a load or a time that a check hasn't"
const sdk = "needs the npm package snowpipe-streaming: set `streaming.client: sdk` and run a pipeline"
const byHand = "to be looked at by hand, as the page says"

export const unchecked: Readonly<Record<string, string>> = {
  A02: "a login shows one kind of credentials: run it again with a token",
  A08: outside,
  A10: "the sink never sends such a line",
  A28: "it makes no difference",
  A29: load,
  A31: byHand,
  A33: outside,
  A34: outside,
  A57: byHand,
  A58: "needs a second role: run it again as a role with INSERT alone",
  A59: sdk,
  A60: sdk,
  A61: byHand,
  A62: "run a pipeline with `merge.by: task`",
  A63: "run a pipeline with `merge.by: task`",
  A70: byHand,
  A71: "the query profile of a large merge tells",
  A72: byHand,
  A75: load,
  A76: "replay a dead letter",
  A77: "run a pipeline with `merge.by: task`",
  A78: load
}
