// What scripts here share with tests/e2e/conformance/scenarios.py: the site, what is said there, how it is reported.
export const SITE = JSON.parse(process.env.CLINSERVE_SITE);

const NOTE =
  "67-year-old woman with hypertension. Medications: lisinopril 10 mg daily. Allergies: penicillin (rash).";
const say = (content) => [{ role: "user", content }];
export const ASK = say(`${NOTE} Any allergies?`);
export const LONG = say("tell all of it again ".repeat(60));
export const TOO_LONG = say("pain ".repeat(5000));
export const TOO_LARGE = say("x".repeat(5_000_000));
export const REFUSE = say("PLEASE_REFUSE");
export const DIE = say("one two three four PLEASE_DIE");
export const WORDS = ["allergic to penicillin", "takes lisinopril", "a broken wrist"];
export const TOOL = "refer_to_allergist";
export const SCHEMA = {
  type: "object",
  properties: { allergic: { type: "boolean" }, severity: { enum: ["mild", "severe"] } },
  required: ["allergic", "severity"],
  additionalProperties: false,
};
export const PARAMETERS = {
  type: "object",
  properties: { urgent: { type: "boolean" } },
  required: ["urgent"],
  additionalProperties: false,
};

export const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

/** Run each and print one JSON line: its name, how long it took, and how it failed, if it did. */
export async function perform(scenarios) {
  for (const [name, scenario] of scenarios) {
    const began = performance.now();
    let failure = null;
    try {
      await scenario();
    } catch (error) {
      failure = String(error.stack ?? error);
    }
    console.log(JSON.stringify({ name, seconds: (performance.now() - began) / 1000, failure }));
  }
}
