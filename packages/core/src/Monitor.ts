/**
 * The contract of a monitor: it watches something that pipelines depend on, raises conditions, and may act on pipelines before harm is done.
 *
 * **Who calls what, and when.** The plugin's `make` is called anew for each run, in the run's scope; the context's `pipeline` is the monitor's name. Then `run` is called, once. `status` may be asked
 * at any time, before the first look and after the end, too.
 *
 * **Trouble.** What it watches can be away for long: that is a condition of its own, over when it can be looked at again, and no end of the run. So is a state store that doesn't answer, a pipeline that isn't there or one that
 * refuses what is asked of it. What can't be looked at is as it was: nothing is over because nobody could look.
 *
 * **Conditions outlive runs.** What one run has raised stays when it fails, and the next one clears it if it is over by then: so a run judges everything anew, and clears what it doesn't find. After a restart of the
 * process nothing is raised, and what is still so has to be raised again, whatever the state store has of it. Something that lasts stays raised, with the same name, table and subject.
 *
 * **Requests outlive the monitor.** What it asks of a pipeline it takes back when that is over and when it ends, since nobody else would. What was in place before it asked (`copiesPaused`, `isSpooling`) is somebody else's to take back.
 *
 * **The end.** Interrupting the run ends the monitor, whatever it waits for; then its scope is closed, and nothing may be left open.
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
