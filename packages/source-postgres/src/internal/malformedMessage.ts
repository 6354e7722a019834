/**
 * A replication message that isn't what the protocol allows; whoever knows where it stood makes the error for people.
 */
export class MalformedMessage extends Error {
  constructor(what: string) {
    super(what)
    this.name = "MalformedMessage"
  }
}

export const malformedMessage = (what: string): never => {
  throw new MalformedMessage(what)
}
