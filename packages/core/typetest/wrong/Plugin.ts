/** Plugins whose parts don't fit each other. */
import { ConnectorError } from "@etl-stream/core/ConnectorError"
import type { Notifier } from "@etl-stream/core/Notifier"
import * as Plugin from "@etl-stream/core/Plugin"
import * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"

const deliver = (url: string): Notifier => ({ notify: () => url === "" ? Effect.never : Effect.void })

export const otherConfiguration = Plugin.notifier({
  name: "example",
  version: "1.0.0",
  summary: "Asks for an option that the schema hasn't got",
  config: Schema.Struct({ url: Schema.String }),
  // tsc: Property 'address' does not exist on type '{ readonly url: string; }'
  make: ({ address }) => Effect.succeed(deliver(address))
})

export const otherType = Plugin.notifier({
  name: "example",
  version: "1.0.0",
  summary: "Takes an option for another type",
  // tsc: Type 'number' is not assignable to type 'string'
  config: Schema.Struct({ port: Schema.Int }),
  make: (options: { readonly port: string }) => Effect.succeed(deliver(options.port))
})

export const returnsTheWrongThing = Plugin.notifier({
  name: "example",
  version: "1.0.0",
  summary: "Gives an answer where none is wanted",
  config: Schema.Struct({ url: Schema.String }),
  // tsc: Type 'Promise<string>' is missing the following properties from type 'Effect<void, ConnectorError
  make: ({ url }) => Effect.succeed({ notify: () => Promise.resolve(url) })
})

export const failsWithSomethingElse = Plugin.notifier({
  name: "example",
  version: "1.0.0",
  summary: "Fails with an error of its own",
  config: Schema.Struct({ url: Schema.String }),
  // tsc: Type 'Error' is missing the following properties from type 'ConnectorError'
  make: () => Effect.succeed({ notify: () => Effect.fail(new Error("no")) })
})

export const unknownReason = new ConnectorError({
  // tsc: Type '"Broken"' is not assignable to type
  reason: "Broken",
  plugin: "example",
  message: "It is broken",
  hint: "Mend it."
})
