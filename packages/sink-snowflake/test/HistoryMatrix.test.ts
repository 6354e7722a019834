/**
 * The scenario matrix for histories. What it does is in `scenario/Matrix.ts`.
 */
import { matrix } from "./scenario/Matrix.ts"
import { modes } from "./scenario/Modes.ts"

matrix(modes.history)
