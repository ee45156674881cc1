/* What lessons' states and stages are called. */

import { say } from "./language.js";

const STATES = {
  COLLECTING: say("Collecting"),
  READY: say("Ready to fit"),
  CHECKING: say("Checking"),
  FITTING: say("Fitting"),
  FITTED: say("Fitted"),
  SHADOW: say("In the shadow"),
  RELEASING: say("Coming into force"),
  RETURNING: say("Going back"),
  RELEASED: say("Released"),
  CANCELLED: say("Given up"),
  FAILED: say("Failed"),
};
const STAGES = {
  start: say("Starting"),
  collect: say("Good images from the camera"),
  read: say("Reading the images"),
  features: say("Computing features"),
  calibrate: say("Calibrating"),
  export: say("Exporting"),
  prove: say("Proving the export"),
  evaluate: say("Judging the defects"),
  measure: say("Measuring its cost"),
  shadow: say("Parts judged beside the line"),
};

export const stateWord = (state) => STATES[state] ?? state;
export const stageWord = (stage) => STAGES[stage] ?? say("Learning");
