// Drives a browser for a test: a line of JSON says what to do, a line of JSON answers. What the page tried and should
// not have (dialogs, errors, requests to others) is kept, and asked for in the end.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

const [tools, program, profile] = process.argv.slice(2);
const require = createRequire(`${tools}/`);
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const browser = await chromium.launchPersistentContext(profile, {
  executablePath: program,
  chromiumSandbox: false,
  args: ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  viewport: { width: 1200, height: 900 },
});
const page = browser.pages()[0] ?? (await browser.newPage());
page.setDefaultTimeout(20000);

const problems = [];
let expected = 0;
page.on("dialog", (it) => { problems.push(`dialog: ${it.message()}`); it.dismiss(); });
page.on("pageerror", (it) => problems.push(`error: ${it}`));
page.on("console", (it) => {
  // The browser says so of each answer of 400 and above; those that a test provokes are counted.
  if (it.type() === "error" && it.text().startsWith("Failed to load resource") && expected > 0) { expected -= 1; return; }
  if (it.type() === "error" || it.type() === "warning") problems.push(`console: ${it.text()}`);
});
page.on("request", (it) => {
  const url = new URL(it.url());
  if (!["127.0.0.1", "localhost"].includes(url.hostname) && url.protocol !== "file:") problems.push(`request: ${url}`);
});

const does = {
  open: async ({ url }) => { await page.goto(url); return page.url(); },
  text: () => page.locator("body").innerText(),
  html: () => page.content(),
  click: ({ role, name }) => page.getByRole(role, { name, exact: true }).first().click(),
  fill: ({ label, value }) => page.getByLabel(label).fill(value),
  tick: async () => { for (const it of await page.getByRole("checkbox").all()) await it.check(); },
  ticked: () => page.locator("input[type=checkbox]:checked").count(),
  press: ({ key }) => page.keyboard.press(key),
  wait: async ({ text, seconds }) => { await page.getByText(text).first().waitFor({ timeout: seconds * 1000 }); },
  shot: ({ file }) => page.screenshot({ path: file, fullPage: true }).then(() => null),
  print: ({ file }) => page.pdf({ path: file, format: "A4" }).then(() => null),
  look: async ({ scheme, media, width }) => {
    await page.emulateMedia({ colorScheme: scheme, media });
    await page.setViewportSize({ width, height: 900 });
  },
  overflow: () => page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth),
  axe: async () => {
    await page.evaluate(axe);
    const found = await page.evaluate(() => window.axe.run());
    const grave = found.violations.filter((it) => ["serious", "critical"].includes(it.impact));
    return grave.map((it) => `${it.id}: ${it.help}: ${it.nodes.map((node) => node.html).join(" | ")}`);
  },
  mark: () => page.evaluate(() => { window.mark = true; }),
  marked: () => page.evaluate(() => window.mark === true),
  focused: () => page.evaluate(() => {
    const style = getComputedStyle(document.activeElement);
    return [document.activeElement.tagName, document.activeElement.textContent.trim(), style.outlineStyle];
  }),
  expect: ({ errors }) => { expected = errors; },
  problems: () => problems,
};

process.stdout.write("{}\n");
for await (const line of createInterface({ input: process.stdin })) {
  const wanted = JSON.parse(line);
  let answer;
  try {
    answer = { is: (await does[wanted.do](wanted)) ?? null };
  } catch (error) {
    answer = { error: `${error}\n${await page.locator("body").innerText().catch(() => "")}` };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
await browser.close();
