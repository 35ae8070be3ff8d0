// The dashboard against Grafana's own types of one (@grafana/schema), made into a JSON schema in which unknown keys are errors.
// Takes the folder with the packages and the dashboard's file.
import fs from "node:fs";
import { createRequire } from "node:module";

const [folder, file] = process.argv.slice(2);
const load = createRequire(`${fs.realpathSync(folder)}/package.json`);
const { createGenerator } = load("ts-json-schema-generator");
const Ajv = load("ajv").default;
const types = `${fs.realpathSync(folder)}/node_modules/@grafana/schema/dist/esm/raw/dashboard/x/dashboard_types.gen.d.ts`;
const schema = createGenerator({ path: types, type: "Dashboard", skipTypeCheck: true, additionalProperties: false }).createSchema("Dashboard");
const validate = new Ajv({ strict: false, allErrors: true }).compile(schema);
let failed = 0;

function check(what, truth, detail = "") {
  console.log(`${truth ? "ok" : "NOT OK"}: ${what}${truth ? "" : `  ${detail}`}`);
  failed += truth ? 0 : 1;
}

const read = () => JSON.parse(fs.readFileSync(file, "utf8"));
check(`${file} is a dashboard as Grafana's schema has it`, validate(read()), JSON.stringify(validate.errors?.slice(0, 10), null, 1));
// It would see a mistake.
const mistakes = {
  "a misspelled key": (dashboard) => (dashboard.panles = []),
  "a panel without a type": (dashboard) => delete dashboard.panels[0].type,
  "a width that is a word": (dashboard) => (dashboard.panels[0].gridPos.w = "wide"),
  "a variable of no known type": (dashboard) => (dashboard.templating.list[0].type = "sauce"),
};
for (const [what, make] of Object.entries(mistakes)) {
  const wrong = read();
  make(wrong);
  check(`${what} is none`, !validate(wrong));
}
process.exit(failed ? 1 : 0);
