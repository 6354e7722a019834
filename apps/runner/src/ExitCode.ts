/**
 * Exit codes of the `etl-stream` command.
 *
 * Scripts and service managers decide by these: a `validation` failure won't go away by itself, an `environment` failure may.
 */
export const ExitCode = {
  ok: 0,
  /** The work failed: a row was refused, changes are lost, a bug. */
  runtime: 1,
  /** The command line or the configuration file is wrong. */
  validation: 2,
  /** Something outside has to be mended: an unreachable server, a wrong password, a missing privilege. */
  environment: 3
} as const
export type ExitCode = typeof ExitCode[keyof typeof ExitCode]
