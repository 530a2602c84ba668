// Validate an AsyncAPI document with the parser of the AsyncAPI initiative; exit 1 on any problem.
import { readFile } from "node:fs/promises";
import parser from "@asyncapi/parser";

// 0 and 1 are errors and warnings; what is below only gives advice.
const ADVICE = 2;

const path = process.argv[2];
const { document, diagnostics } = await new parser.Parser().parse(await readFile(path, "utf8"));
const problems = diagnostics.filter((one) => one.severity < ADVICE);
for (const one of problems) {
  console.error(`${path}: ${one.path.join(".")}: ${one.message}`);
}
if (problems.length > 0 || document === undefined) {
  process.exit(1);
}
console.log(
  `${path} is valid AsyncAPI ${document.version()}: ` +
    `${document.channels().length} channels, ${document.allMessages().length} messages`,
);
