import{d as e,c as o,o as t}from"./runtime-core.esm-bundler-BV15A_AM.js";const s=e({__name:"HomePage",setup(a){return(n,c)=>(t(),o("div"))}});export{s as default};
