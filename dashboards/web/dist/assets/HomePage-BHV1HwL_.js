//# allFunctionsCalledOnLoad
import{d as e,c as o,o as t}from"./start-CflulvJJ.js";const s=e({__name:"HomePage",setup(a){return(n,c)=>(t(),o("div"))}});export{s as default};
