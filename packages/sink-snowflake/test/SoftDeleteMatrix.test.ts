/**
 * The scenario matrix for mirrors with soft deletes. What it does is in `scenario/Matrix.ts`.
 */
import { matrix } from "./scenario/Matrix.ts"
import { modes } from "./scenario/Modes.ts"

matrix(modes.softDelete)
