/**
 * The `etl-stream` command's parts, for programs that embed it.
 */
export * as CommandError from "./CommandError.ts"
export * as Config from "./Config.ts"
export * as Configuration from "./Configuration.ts"
export * as ConfigurationChange from "./ConfigurationChange.ts"
export * as ControlError from "./ControlError.ts"
export * as ExitCode from "./ExitCode.ts"
export * as Interpolation from "./Interpolation.ts"
export * as LiveView from "./LiveView.ts"
export * as Logging from "./Logging.ts"
export * as PluginLoader from "./PluginLoader.ts"
export * as Problem from "./Problem.ts"
export * as Rates from "./Rates.ts"
export * as Redaction from "./Redaction.ts"
export * as Supervisor from "./Supervisor.ts"
