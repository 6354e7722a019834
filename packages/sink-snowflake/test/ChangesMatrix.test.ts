/**
 * The scenario matrix for changelogs (with their views of the current state). What it does is in `scenario/Matrix.ts`.
 */
import { matrix } from "./scenario/Matrix.ts"
import { modes } from "./scenario/Modes.ts"

matrix(modes.changelog)
