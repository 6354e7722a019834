/**
 * The built-in transforms of etl-stream: `plugins`, one for each.
 */
export const plugins = {}
