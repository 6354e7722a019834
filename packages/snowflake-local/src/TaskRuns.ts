/**
 * Runs of tasks: those that were asked for, and what became of the last ones.
 */
import * as Context from "effect/Context"
import * as Layer from "effect/Layer"

/** One line of TASK_HISTORY. */
export interface TaskRun {
  readonly taskId: string
  readonly database: string
  readonly schema: string
  readonly name: string
  readonly definition: string
  readonly condition: string | null
  readonly scheduledFrom: "SCHEDULE" | "EXECUTE TASK"
  readonly scheduledAt: number
  readonly startedAt: number
  queryId: string | null
  state: "EXECUTING" | "SUCCEEDED" | "FAILED" | "SKIPPED"
  errorCode: string | null
  errorMessage: string | null
  completedAt: number | null
}

const kept = 1000

export class TaskRuns extends Context.Service<TaskRuns, {
  /** Asks for one run. */
  readonly request: (taskId: string) => void
  /** Whether a run was asked for; taken at once. */
  readonly take: (taskId: string) => boolean
  readonly add: (run: TaskRun) => void
  /** The last runs, the newest first. */
  readonly history: () => ReadonlyArray<TaskRun>
}>()("@etl-stream/snowflake-local/TaskRuns") {
  static readonly layer: Layer.Layer<TaskRuns> = Layer.sync(TaskRuns, () => {
    const requested = new Set<string>()
    const runs: Array<TaskRun> = []
    return TaskRuns.of({
      request: (taskId) => {
        requested.add(taskId)
      },
      take: (taskId) => requested.delete(taskId),
      add: (run) => {
        runs.unshift(run)
        runs.length = Math.min(runs.length, kept)
      },
      history: () => [...runs]
    })
  })
}
