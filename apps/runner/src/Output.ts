/**
 * What a command prints as its result: text for people, or with `--json` one envelope on standard output.
 *
 * `{"ok":true,"command":…, …}` or `{"ok":false,"command":…,"error":{"code","message","hint","file"?,"pipeline"?,"path"?,"problems"?}}`.
 */
import * as Effect from "effect/Effect"
import { type CommandError, renderText } from "./CommandError.ts"
import { ExitCode } from "./ExitCode.ts"
import type { Redaction } from "./Redaction.ts"

/** A command's result in both forms. */
export interface Result {
  readonly command: string
  readonly data: Readonly<Record<string, unknown>>
  /** Empty when there is nothing to tell people. */
  readonly text: string
  /** For a command whose result is a verdict; default: 0. */
  readonly exitCode?: ExitCode
}

const write = (stream: NodeJS.WriteStream, text: string): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    // A reader that went away (`| head`) is no error of ours.
    stream.write(text, () => resume(Effect.void))
  })

export const succeed = (result: Result, json: boolean): Effect.Effect<void> => {
  if (json) {
    const ok = (result.exitCode ?? ExitCode.ok) === ExitCode.ok
    return write(process.stdout, `${JSON.stringify({ ok, command: result.command, ...result.data })}\n`)
  }
  return result.text === "" ? Effect.void : write(process.stdout, `${result.text}\n`)
}

export const fail = (command: string, error: CommandError, json: boolean, redact: Redaction): Effect.Effect<void> => {
  if (!json) return write(process.stderr, `${redact(renderText(error))}\n`)
  const { code, file, hint, message, pipeline, problems } = error
  const envelope = {
    ok: false,
    command,
    error: {
      code,
      message,
      hint,
      ...(file === undefined ? {} : { file }),
      ...(pipeline === undefined ? {} : { pipeline }),
      ...(problems?.length === 1 && problems[0] !== undefined ? { path: problems[0].path } : {}),
      ...(problems === undefined ? {} : { problems })
    }
  }
  return write(process.stdout, `${redact(JSON.stringify(envelope))}\n`)
}
