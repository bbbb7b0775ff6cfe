//# allFunctionsCalledOnLoad
const n=12;function o(t,r,e){return[...t].length<12?"short":e&&t.toLowerCase()===e.toLowerCase()?"name":t===r?null:"different"}export{n as S,o as p};
