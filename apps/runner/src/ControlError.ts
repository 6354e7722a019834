/**
 * Why something that was asked of a running pipeline is not done.
 */
import type { ConnectorError } from "@etl-stream/core/ConnectorError"
import * as Schema from "effect/Schema"
import { closest } from "./Suggestion.ts"

/**
 * `UnknownPipeline`: there is none of that name; `PausedByConfiguration`: only its configuration can resume it; `PipelineStopped`: it has to be resumed first;
 * `ShuttingDown`: the process ends; `StateStore`: what has to be kept can't be.
 */
export const Reason = Schema.Literals([
  "UnknownPipeline",
  "PausedByConfiguration",
  "PipelineStopped",
  "ShuttingDown",
  "StateStore"
])

export class ControlError extends Schema.TaggedError<ControlError>("@etl-stream/runner/ControlError")("ControlError", {
  reason: Reason,
  message: Schema.String,
  hint: Schema.String
}) {
  static unknownPipeline(name: string, known: Iterable<string>): ControlError {
    const meant = closest(name, known)
    return new ControlError({
      reason: "UnknownPipeline",
      message: `There is no pipeline ${JSON.stringify(name.slice(0, 100))}`,
      hint: meant === undefined ? "See which there are with `etl-stream status`." : `Did you mean \`${meant}\`?`
    })
  }

  static pausedByConfiguration(name: string): ControlError {
    return new ControlError({
      reason: "PausedByConfiguration",
      message: `The pipeline ${name} is paused by its configuration`,
      hint: "Set its `status` to `running` there, and reload."
    })
  }

  static pipelineStopped(name: string): ControlError {
    return new ControlError({
      reason: "PipelineStopped",
      message: `The pipeline ${name} is stopped`,
      hint: "Resume it first."
    })
  }

  static shuttingDown(): ControlError {
    return new ControlError({
      reason: "ShuttingDown",
      message: "etl-stream is being stopped",
      hint: "Ask again when it runs."
    })
  }

  static stateStore({ hint, message }: ConnectorError): ControlError {
    return new ControlError({ reason: "StateStore", message, hint })
  }
}
