/**
 * The contract of a monitor: it watches something that pipelines depend on, raises conditions, and may act on pipelines before harm is done.
 */
import type * as Effect from "effect/Effect"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import type { Conditions } from "./Condition.ts"
import type { ConnectorError } from "./ConnectorError.ts"
import type { PipelineControl } from "./PipelineControl.ts"
import type { View } from "./Progress.ts"
import type { StateStoreShape } from "./StateStore.ts"

/** A pipeline of the same process, as a monitor sees it. */
export interface MonitoredPipeline {
  readonly name: string
  readonly view: () => View
  readonly control: PipelineControl
}

export interface MonitorContext {
  /** Where the monitor raises its conditions; they are kept under the monitor's name. */
  readonly conditions: Conditions
  /** For what must outlive a restart. */
  readonly state: StateStoreShape
  /** The pipelines as they are now. */
  readonly pipelines: () => ReadonlyArray<MonitoredPipeline>
}

export interface Monitor {
  /** Watches until it is interrupted. Trouble that passes is dealt with inside and shown as a condition; a failure is retried by the runner's policy. */
  readonly run: (context: MonitorContext) => Effect.Effect<never, ConnectorError, Scope.Scope>
  /** What was seen last, for status pages: plain JSON without secrets. */
  readonly status: () => Schema.Json
}
